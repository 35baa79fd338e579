"""Object stores around object stores: repeat, slow down, fail on purpose."""
