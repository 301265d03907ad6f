"""What work a step of a decoder is: bytes and flops of every kernel. Pure arithmetic, no clock."""
