//! The kinds of problem: the word, the title and the status of each.

use http::StatusCode;

/// The kinds of problem, one catalogue entry each.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Unreadable,
    Conflict,
    NotAnOrder,
    FetchNeeded,
    UnknownChannel,
    TooLarge,
    UnsupportedMediaType,
    Overloaded,
    Quota,
    UnknownOutcome,
    Closing,
    NotFound,
    BadRequest,
    Timeout,
    CrossOrigin,
}

impl Kind {
    /// The last part of the problem's `type`, also the metric label.
    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::Unreadable => "unreadable",
            Self::Conflict => "conflict",
            Self::NotAnOrder => "not-an-order",
            Self::FetchNeeded => "fetch-needed",
            Self::UnknownChannel => "unknown-channel",
            Self::TooLarge => "too-large",
            Self::UnsupportedMediaType => "unsupported-media-type",
            Self::Overloaded => "overloaded",
            Self::Quota => "quota",
            Self::UnknownOutcome => "unknown-outcome",
            Self::Closing => "closing",
            Self::NotFound => "not-found",
            Self::BadRequest => "bad-request",
            Self::Timeout => "timeout",
            Self::CrossOrigin => "cross-origin",
        }
    }

    pub(super) fn title(self) -> &'static str {
        match self {
            Self::Unreadable => "The body cannot be read",
            Self::Conflict => "Another order has this key",
            Self::NotAnOrder => "This is not an order",
            Self::FetchNeeded => "Only an id came",
            Self::UnknownChannel => "No such channel",
            Self::TooLarge => "Too large",
            Self::UnsupportedMediaType => "Content type or encoding not supported",
            Self::Overloaded => "Too busy to take orders safely",
            Self::Quota => "Over this channel's quota",
            Self::UnknownOutcome => "Whether the order was kept is unknown",
            Self::Closing => "Shutting down",
            Self::NotFound => "Not found",
            Self::BadRequest => "The request cannot be used",
            Self::Timeout => "The body came too slowly",
            Self::CrossOrigin => "Not from a browser",
        }
    }

    pub(super) fn status(self) -> StatusCode {
        match self {
            Self::Unreadable | Self::BadRequest => StatusCode::BAD_REQUEST,
            Self::Conflict => StatusCode::CONFLICT,
            Self::NotAnOrder | Self::FetchNeeded => StatusCode::UNPROCESSABLE_ENTITY,
            Self::UnknownChannel | Self::NotFound => StatusCode::NOT_FOUND,
            Self::TooLarge => StatusCode::PAYLOAD_TOO_LARGE,
            Self::UnsupportedMediaType => StatusCode::UNSUPPORTED_MEDIA_TYPE,
            Self::Quota => StatusCode::TOO_MANY_REQUESTS,
            Self::Overloaded | Self::UnknownOutcome | Self::Closing => {
                StatusCode::SERVICE_UNAVAILABLE
            }
            Self::Timeout => StatusCode::REQUEST_TIMEOUT,
            Self::CrossOrigin => StatusCode::FORBIDDEN,
        }
    }
}
