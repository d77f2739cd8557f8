"""At home in what others have made. Each has an extra of its own.

Rules of this room: nothing else imports it.

    django         a Django project: its database, its transactions, its admin and its commands
    opentelemetry  spans of units
    sentry         reports of failures
"""
