"""The checker that jaxtyping applies to every annotated function during tests; an int is a valid float."""

from beartype import BeartypeConf, beartype

checker = beartype(conf=BeartypeConf(is_pep484_tower=True))
