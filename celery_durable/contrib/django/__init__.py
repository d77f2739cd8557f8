"""Durable workflows at home in a Django project, which has this package in INSTALLED_APPS.

Rules of this room: Django's transactions are begun, committed and rolled back by Django. The models
are imported by Django alone, once its apps are loaded.

    apps         the app: what is done when Django is set up
    project      finds the Durable of the project
    framework    what Django does in place of the library
    connections  connections to the database of an alias
    transaction  statements of ours in Django's transactions
    steps        steps of a reusable app
    emptying     empties the tables where Django empties its own; lets go of a test's database
    checks       what `manage.py check` says of the settings
    revision     the operation of a migration that runs one of the library's own
    migrations   one for each of the library's own
    models       runs and units, over the views: to query and to join
    json_field   JSON of a view as a field
    admin        runs in Django's admin
    pages        the pages of a run in the admin
    links        the view of signed links; needs the extra `web`
    urls         its URL, to be included
    login        who looks at the web page
    management   `manage.py durable`
"""

from celery_durable.contrib.django.project import get_durable
from celery_durable.contrib.django.steps import shared_step

__all__ = ["get_durable", "shared_step"]
"""What projects and reusable apps import."""
