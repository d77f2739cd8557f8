"""What a step costs: ratios from one run, against a floor measured in the same run."""
