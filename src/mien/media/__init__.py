"""Pixels in and out: pictures, films, cameras."""
