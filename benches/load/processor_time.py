"""The processor time of a running program, for the commands beside this file."""

import glob


def processor_s(pid):
    """Seconds that each of its threads spent, by their names; those of one name together."""
    spent = {}
    for task in glob.glob(f"/proc/{pid}/task/*"):
        try:
            with open(f"{task}/comm") as name, open(f"{task}/schedstat") as times:
                name = name.read().strip()
                spent[name] = spent.get(name, 0) + int(times.read().split()[0]) / 1e9
        except FileNotFoundError:
            pass
    return spent
