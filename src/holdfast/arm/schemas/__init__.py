"""What bodies look like, as structs: requests are checked by them, and the OpenAPI document is made
of them. ``table`` says which address takes and gives which."""
