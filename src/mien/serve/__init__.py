"""The web service: a page that people like to use and an API that stands up to load and to strangers.

Nothing is imported here; `mien.serve.app.create_app` makes the application, `mien.serve.start` runs it.
"""
