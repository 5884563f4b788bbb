"""The loop: attempt, judge, record, and again until enough is kept or the budget is spent."""
