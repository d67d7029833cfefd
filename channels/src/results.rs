//! The results of queries as JSON texts, for the server API.

use std::sync::Arc;

use crate::exchange::History;
use crate::protocol::write_json_result;
use crate::publication::ClientInfo;
use crate::view;

/// Returns `{"publications":[…],"epoch":…,"offset":…}`. The data of each publication must be JSON.
pub fn history(history: &History) -> Vec<u8> {
    let mut out = Vec::new();
    view::history_result(history, |answer| write_json_result(&mut out, &answer));
    out
}

/// Returns `{"presence":{…}}`, with the clients by the ids of their connections.
pub fn presence(clients: &[Arc<ClientInfo>]) -> Vec<u8> {
    let mut out = Vec::new();
    view::presence_result(clients, |answer| write_json_result(&mut out, &answer));
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::publication::{ClientId, Epoch, Position, Publication};

    #[test]
    fn results_contain_the_values_of_the_application_unchanged() {
        let info = Arc::new(ClientInfo {
            user: "1\"".into(),
            client: ClientId::from_random(0),
            conn_info: Some(b"{\"n\":1.50}".as_slice().into()),
            chan_info: None,
        });
        let position = Position { epoch: Epoch::from_bits(0), offset: 7 };
        let publication =
            Publication { info: Some(info.clone()), position: Some(position), ..Publication::of("a", "1.0") };
        let client =
            r#"{"user":"1\"","client":"00000000-0000-4000-8000-000000000000","conn_info":{"n":1.50}}"#;
        let expected = format!(
            r#"{{"publications":[{{"data":1.0,"info":{client},"offset":7}}],"epoch":"aaaaaaaa","offset":7}}"#
        );
        let result = history(&History { publications: vec![Arc::new(publication)], position });
        assert_eq!(String::from_utf8(result).unwrap(), expected);
        let expected = format!(r#"{{"presence":{{"00000000-0000-4000-8000-000000000000":{client}}}}}"#);
        assert_eq!(String::from_utf8(presence(&[info])).unwrap(), expected);
        assert_eq!(presence(&[]), b"{\"presence\":{}}");
    }
}
