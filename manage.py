"""Django's own command line, for engineers; people who run Reclaim use `reclaim`."""

import os
import sys


def main() -> None:
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "web.settings")
    import django
    from django.core.management import execute_from_command_line

    django.setup()
    from governance import tenancy

    # Who may run this command on this machine is one of us.
    tenancy.be_system()
    execute_from_command_line(sys.argv)


if __name__ == "__main__":
    main()
