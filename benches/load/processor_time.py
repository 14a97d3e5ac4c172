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


def family_processor_s(pid):
    """The same of it and of all that it started, in one sum: for programs that work in several processes."""
    total = sum(processor_s(pid).values())
    for task in glob.glob(f"/proc/{pid}/task/*/children"):
        with open(task) as children:
            total += sum(family_processor_s(int(child)) for child in children.read().split())
    return total
