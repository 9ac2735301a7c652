"""Select again before every epoch, with the model as it is by then."""
