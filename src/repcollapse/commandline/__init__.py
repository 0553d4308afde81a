"""What is behind ``repcollapse diagnose``, ``compare``, ``explain`` and ``demo``.

``inputs`` opens the files, ``survey`` goes through their rows, on one process or several,
``diagnose``, ``compare``, ``explain`` and ``demo`` answer, ``terminal`` and ``page`` show the
answer, ``output`` writes it and says what went wrong. Each is imported by the command that needs
it, since torch alone takes a second.
"""
