"""Prints documents that the real `twilio` package writes, one in each line, as JSON texts."""

import json

from twilio.twiml.voice_response import Connect, Dial, Gather, Stream, VoiceResponse


def talking():
    response = VoiceResponse()
    response.say("Fish & <chips>", language="en-GB", voice="Polly.Amy", loop=2)
    response.play("https://bot.example/tune.wav", loop=3)
    response.play("", digits="ww12#")
    response.pause(length=4)
    return response


def gathering():
    response = VoiceResponse()
    gather = Gather(input="dtmf", action="/keys", method="GET", num_digits=4, timeout=7, finish_on_key="*")
    gather.say("Which?")
    gather.play("/which.wav")
    gather.pause(length=1)
    response.append(gather)
    response.redirect("/again", method="GET")
    return response


def streaming():
    response = VoiceResponse()
    connect = Connect(action="/after")
    stream = Stream(url="wss://bot.example/media", name="desk", status_callback="/stream")
    stream.parameter(name="caller", value='"A" & b')
    connect.append(stream)
    response.append(connect)
    return response


def dialling():
    response = VoiceResponse()
    dial = Dial(
        action="/dialled",
        timeout=20,
        time_limit=600,
        caller_id="+15550100",
        answer_on_bridge=True,
        record="record-from-answer-dual",
        recording_status_callback="/taped",
        recording_status_callback_method="GET",
    )
    dial.number("+15550142")
    dial.number("+1 (555) 01-43")
    dial.sip("sip:desk@pbx.example;transport=tcp", username="u", password="p")
    response.append(dial)
    return response


def dialling_one():
    response = VoiceResponse()
    response.dial("+15550142")
    return response


def recording():
    response = VoiceResponse()
    response.record(
        action="/recorded",
        max_length=30,
        timeout=3,
        finish_on_key="#",
        play_beep=False,
        recording_status_callback="/whole",
    )
    response.hangup()
    return response


def rejecting():
    response = VoiceResponse()
    response.reject(reason="busy")
    return response


def rejecting_plainly():
    response = VoiceResponse()
    response.reject()
    return response


def queueing():
    response = VoiceResponse()
    response.say("Please hold.")
    response.enqueue("support")
    return response


for make in (
    talking,
    gathering,
    streaming,
    dialling,
    dialling_one,
    recording,
    rejecting,
    rejecting_plainly,
    queueing,
):
    print(json.dumps(str(make())))
