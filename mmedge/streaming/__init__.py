"""From sources that come and go to results that say how fresh they are."""
