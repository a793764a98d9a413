"""Many runs: studies, tuning, verification."""
