"""The commands of `manage.py`.

Each is called `Command`, in the module of its name.

    durable  the command line of the library
"""
