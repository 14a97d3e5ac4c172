-- Why a peer hung up is of the inside of the switch: told to the webhooks that name it, and not to those that want all.
CREATE OR REPLACE FUNCTION tandem_webhook_is_inside(type text) RETURNS boolean
    LANGUAGE sql IMMUTABLE PARALLEL SAFE
    AS $$
    SELECT type IN (
        'call.decided', 'call.refused', 'call.ignored', 'call.acknowledged', 'call.first_media', 'call.dialled',
        'call.sent', 'call.attempted', 'call.progressed', 'call.reoffer_refused', 'call.replaced', 'call.peer_reason',
        'call.turn', 'call.barge_in', 'call.underrun', 'call.leg_media', 'call.media'
    )
    $$;
