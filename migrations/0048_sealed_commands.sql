-- Commands on their way between nodes under the key that seals secrets, where the nodes have one: numbers and keys stand
-- in them, and a Twilio-style one brings the token that requests to its web server are signed with. Such a token goes
-- sealed or not at all.
ALTER TABLE call_commands ADD COLUMN is_sealed boolean NOT NULL DEFAULT false;
ALTER TABLE call_commands ADD COLUMN sealed_credentials text CHECK (length(sealed_credentials) <= 4000);
