"""The studio: a local page in the browser. It calls ``inference`` and ``training`` and has no logic of its own.

``launch.py`` starts it, ``parts.py`` is what the tabs share, and each tab is a module.
"""
