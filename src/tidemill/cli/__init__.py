"""The command line: one file a command in :mod:`tidemill.cli.commands`, each a few lines over :mod:`tidemill.api`.

Nothing heavy is imported before a command runs, so that ``tidemill --help`` answers at once.
"""
