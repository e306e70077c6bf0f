"""A plain loop over `fit`."""

import sys

from work import Work, report

if __name__ == "__main__":
    work = Work(sys.argv[1])
    report([work.train(params) for params in work.trials])
