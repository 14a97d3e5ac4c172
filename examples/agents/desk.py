"""The front desk of a dentist: what is answered to what a caller says. Both bots know this and nothing else."""

import re

GREETING = "Good day, this is the dental practice. How can I help you?"
AGAIN = "I am sorry, I did not get that. You can ask for our opening hours, or for an appointment."
STILL_THERE = "Are you still there?"
GOODBYE = "Thank you for your call. Goodbye."

_DAYS = "monday|tuesday|wednesday|thursday|friday|saturday"

# The first rule that fits answers. A text that ends the call is the last one said.
_RULES = [
    (r"\b(bye|goodbye|that is all|that's all|hang up)\b", GOODBYE),
    (rf"\b(open|opening|hours|close)\b", "We are open from nine to five, Monday to Friday, and ten to two on Saturday."),
    (rf"\b({_DAYS})\b", "{0} at ten is free. I have put you down. Is there anything else?"),
    (r"\b(appointment|book|visit|tooth|toothache)\b", "Of course. Which day suits you?"),
    (r"\b(cancel)\b", "Your appointment is cancelled. Is there anything else?"),
    (r"\b(where|address)\b", "You find us at number five, Station Road."),
    (r"\b(transfer|human|person|somebody|sales)\b", "All my colleagues are with patients. Please call again in the afternoon."),
    (r"\b(thank you|thanks|no)\b", "You are welcome. Is there anything else?"),
    (r"\b(hello|hi|good morning|good day)\b", "Hello. What can I do for you?"),
]

# Keys say the same without words.
_KEYS = {"1": "opening hours", "2": "appointment", "9": "goodbye"}

# What the plain bot listens for: pocketsphinx knows sentences best that it was told of (JSGF).
GRAMMAR = """#JSGF V1.0;
grammar desk;
public <said> = [<polite>] ( <hours> | <appointment> | <day> | <cancel> | <where> | <transfer> | <thanks> | <hello> | <bye> );
<polite> = hello | good morning | please | yes | well;
<days> = monday | tuesday | wednesday | thursday | friday | saturday;
<hours> = ( what are your opening hours | when are you open | are you open | when do you close ) [ on <days> | today | tomorrow ];
<appointment> = ( i would like | i need | can i make | i want to book | i want ) ( an appointment | a visit ) [ for <days> | on <days> ] | my tooth hurts;
<day> = [ on | for | next ] <days> [ please ] | <days> is fine;
<cancel> = ( i would like | i want | please ) [ to ] cancel [ my | the ] appointment;
<where> = where are you | what is your address;
<transfer> = ( transfer me to | can i speak to | i want to talk to ) ( a human | a person | somebody | the sales department );
<thanks> = thank you [ very much ] | no [ thank you ] | thanks;
<hello> = hello | good morning | good day;
<bye> = goodbye | bye | that is all | no that is all [ thank you ];
"""


def answer(said):
    """What is answered, and whether the call ends with it."""
    for pattern, text in _RULES:
        found = re.search(pattern, said.lower())
        if found:
            named = (found.group(0).capitalize(),)
            return text.format(*named), text == GOODBYE
    return AGAIN, False


def answer_key(key):
    """The same for a key."""
    return answer(_KEYS.get(key, ""))


def texts():
    """Everything that may be said without a name in it: it can be spoken beforehand."""
    fixed = [GREETING, AGAIN, STILL_THERE, GOODBYE]
    return fixed + [text for _, text in _RULES if "{0}" not in text and text not in fixed]
