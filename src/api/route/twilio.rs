//! The routes in the form of Twilio's API.

use crate::api::route::Access;
use crate::api::route::JSON;
use crate::api::route::OPERATOR;
use crate::api::route::Route;
use crate::api::route::Shape;
use crate::api::route::VIEWER;
use crate::api::route::asks;
use crate::api::route::route;
use crate::api::twilio;
use axum::routing::get;
use axum::routing::post;

const FORM: &str = "application/x-www-form-urlencoded";

pub(super) const TWILIO: [Route; 3] = [
    route(
        ("POST", "/2010-04-01/Accounts/{account_sid}/Calls.json"),
        Access::Tenant(OPERATOR),
        Shape::Other {
            takes: Some((FORM, "TwilioCallWish")),
            status: 201,
            gives: (JSON, "TwilioCall"),
        },
        "Places a call, as clients of Twilio ask for it.",
        || post(twilio::create),
    ),
    route(
        ("GET", twilio::CALL_PATH),
        Access::Tenant(VIEWER),
        asks(None, 200, "TwilioCall"),
        "Shows a call, as clients of Twilio read it.",
        || get(twilio::show),
    ),
    route(
        ("POST", twilio::CALL_PATH),
        Access::Tenant(OPERATOR),
        Shape::Other {
            takes: Some((FORM, "TwilioCallChange")),
            status: 200,
            gives: (JSON, "TwilioCall"),
        },
        "Ends a call, or lets a document lead it from now on, as clients of Twilio ask for it. One that is \
         over is not found.",
        || post(twilio::update),
    ),
];
