"""What `manage.py` finds.

Django finds a command by the name of its module.

    commands  its commands
"""
