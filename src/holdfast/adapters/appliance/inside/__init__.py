"""What runs inside the appliance, by a Python without most of its library. Holdfast itself imports
``wire`` only: what the two say to each other."""
