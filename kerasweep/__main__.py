"""`python -m kerasweep`: the same as the command `kerasweep`."""

from kerasweep.scheduler.cli.entry import main

if __name__ == "__main__":
    main()
