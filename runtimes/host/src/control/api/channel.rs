//! The methods that concern one channel, or list channels.

use std::sync::Arc;

use postern_channels::channel::{ChannelName, InvalidChannel, MAX_CHANNEL};
use postern_channels::namespaces::{ChannelOptions, Namespaces};

use super::error::{MethodError, MethodErrorCode};

/// Returns the options of a channel.
///
/// # Errors
/// The text is not a name, or there is no such namespace.
pub(super) fn find_channel<'n>(
    namespaces: &'n Namespaces,
    channel: &str,
) -> Result<&'n Arc<ChannelOptions>, MethodError> {
    let name = ChannelName::parse(channel).map_err(|error| {
        MethodError::bad(match error {
            InvalidChannel::Empty => "channel is missing; name one, such as \"news\"".to_owned(),
            InvalidChannel::TooLong => {
                format!("the name of the channel has {} bytes; it may have {MAX_CHANNEL}", channel.len())
            }
            InvalidChannel::Character => {
                "the name of a channel may have visible ASCII characters and spaces; others only in the ids after #"
                    .to_owned()
            }
        })
    })?;
    namespaces.options(name).ok_or_else(|| {
        let namespace = name.namespace().unwrap_or_default();
        MethodError::new(
            MethodErrorCode::UnknownChannel,
            format!("add [namespaces.{namespace}] to the file of POSTERN_CHANNELS_FILE"),
        )
    })
}
