"""What trains ONE member: mesh, state, optimizer, step, checkpoint, loop."""
