"""What a kernel will take, from its machine code. `sass` reads instructions with what controls their issue."""
