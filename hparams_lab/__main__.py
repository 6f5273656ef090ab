"""`python -m hparams_lab`: the same as `hparams-lab`."""

from hparams_lab.cli.main import main

if __name__ == "__main__":
    main()
