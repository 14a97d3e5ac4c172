-- Whether a call's media was encrypted: the SRTP suite in force at its end, null for plain RTP, and how many
-- packets did not authenticate or came twice.
ALTER TABLE calls
    ADD COLUMN srtp_suite   text,
    ADD COLUMN srtp_refused bigint;
