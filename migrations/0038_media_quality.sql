-- How good the audio of a call was, each way, beside the figures that have columns: bursts of loss, levels, delays,
-- E-model ratings, what the far end told (RTCP XR), and for how long nobody was heard.

ALTER TABLE calls ADD COLUMN media_quality jsonb CHECK (jsonb_typeof(media_quality) = 'object');
