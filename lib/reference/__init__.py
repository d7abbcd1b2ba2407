"""Every loss of the course in NumPy, as a value and a gradient derived by hand: the judge that knows no torch.

For each function ``name`` of ``lib.losses`` there are ``name(input, target, *, options)``, the loss before any
reduction, and ``name_grad``, the derivative of its sum in ``input``. Both compute in float64.
"""
