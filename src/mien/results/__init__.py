"""What was found: the face table, its columns, its files."""

from .columns import Reason
from .faces import Faces

__all__ = ["Faces", "Reason"]
