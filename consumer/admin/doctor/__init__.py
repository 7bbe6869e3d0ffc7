"""What can be wrong before it is: one function per check, each with its findings and what to do about them."""
