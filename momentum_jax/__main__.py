"""`python -m momentum_jax` is `momentum-jax`."""

from momentum_jax.cli import main

if __name__ == "__main__":
    main()
