"""Speed comparisons: ratios come from a single run, and every time is reported with evidence of a correct result."""
