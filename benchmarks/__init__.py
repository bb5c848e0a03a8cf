"""Speed, side by side: every ratio from one run, every time beside the evidence that its result is right."""
