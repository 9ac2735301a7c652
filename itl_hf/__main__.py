"""`python -m itl_hf ...` is `itl-hf ...`; `torchrun -m itl_hf ...` needs this form."""

from itl_hf.cli.main import main

if __name__ == "__main__":
    main()
