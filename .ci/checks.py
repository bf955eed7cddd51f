"""What hostile.py, inject.py and transcripts.py share: checks that are counted, and waiting with a deadline."""
import sys, time
counts = {True: 0, False: 0}  # passed, failed
def check(name, ok, screen=None):
    """Counts a check. What was on the screen is shown if it fails."""
    counts[bool(ok)] += 1
    print("ok     " if ok else "FAILED ", name, flush=True)
    if not ok and screen is not None: print(screen)
def until(condition, seconds=5):
    """Waits until the condition holds. Returns whether it did in time."""
    end = time.time() + seconds
    while not condition():
        if time.time() > end: return False
        time.sleep(0.01)
    return True
def finish():
    print(f"{counts[True]} passed, {counts[False]} failed")
    sys.exit(counts[False] > 0 or counts[True] == 0)
