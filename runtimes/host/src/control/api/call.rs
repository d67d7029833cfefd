//! Calls of methods, from the body of a request.

use serde_json::error::Category;

use super::Method;
use super::error::MethodError;
use super::params::Params;
use crate::control::response::ApiError;

/// A method and its parameters.
#[derive(Debug)]
pub(in super::super) struct Call<'b> {
    pub(in super::super) method: Method,
    pub(in super::super) params: Params<'b>,
}

/// Parses the body of `POST /api/METHOD`.
///
/// # Errors
/// The body is not a JSON object.
pub(in super::super) fn single(method: Method, body: &[u8]) -> Result<Call<'_>, ApiError> {
    Ok(Call { method, params: parse(body)? })
}

/// Parses the body of `POST /api/batch`. A command that is not a call has an error.
///
/// # Errors
/// The body is not a JSON object with a list of commands.
pub(in super::super) fn batch(body: &[u8]) -> Result<Vec<Result<Call<'_>, MethodError>>, ApiError> {
    let commands = parse(body)?.objects("commands");
    let commands = commands.map_err(|_| ApiError::bad("json", "commands must be a list of objects"))?;
    check_number(commands.len())?;
    Ok(commands.iter().map(command).collect())
}

/// Parses `{METHOD:{…}}`.
fn command<'b>(command: &Params<'b>) -> Result<Call<'b>, MethodError> {
    let mut names = command.names();
    let (Some(name), None) = (names.next(), names.next()) else {
        return Err(MethodError::bad("a command is an object with one member, such as {\"publish\":{…}}"));
    };
    let method = Method::from_name(name)
        .ok_or_else(|| MethodError::bad(format!("the methods of a batch are {}", Method::names())))?;
    Ok(Call { method, params: command.object(name)?.unwrap_or_default() })
}

/// Parses the body of `POST /api`: an object with `method` and `params` in each line.
///
/// # Errors
/// A line is not such an object.
pub(in super::super) fn lines(body: &[u8]) -> Result<Vec<Call<'_>>, ApiError> {
    let line = |line| {
        let command = parse(line)?;
        let form =
            || ApiError::bad("json", "each line is an object such as {\"method\":\"info\",\"params\":{}}");
        let name = command.text("method").map_err(|_| form())?;
        let params = command.object("params").map_err(|_| form())?.unwrap_or_default();
        let method = Method::from_name(&name)
            .ok_or_else(|| ApiError::bad("json", format!("method must be one of {}", Method::names())))?;
        Ok(Call { method, params })
    };
    let lines = body.split(|&byte| byte == b'\n').filter(|line| !line.trim_ascii().is_empty());
    let calls = lines.map(line).collect::<Result<Vec<_>, ApiError>>()?;
    if calls.is_empty() {
        return Err(ApiError::bad("json", "the body is empty; send an object in each line"));
    }
    check_number(calls.len())?;
    Ok(calls)
}

fn check_number(calls: usize) -> Result<(), ApiError> {
    if calls <= MAX_CALLS {
        return Ok(());
    }
    Err(ApiError::bad("batch", format!("a request has at most {MAX_CALLS} commands")))
}

/// Parses a JSON object.
fn parse(body: &[u8]) -> Result<Params<'_>, ApiError> {
    Params::parse(body).map_err(|error| match error.classify() {
        Category::Data => {
            ApiError::bad("json", "the body must be a JSON object, such as {\"channel\":\"news\"}")
        }
        Category::Eof | Category::Syntax | Category::Io => {
            ApiError::bad("json", format!("the body is not JSON: {error}"))
        }
    })
}

/// The most calls of a request.
const MAX_CALLS: usize = 1_000;

#[cfg(test)]
mod tests {
    use super::super::NodeMethod;
    use super::*;

    #[track_caller]
    fn check_lines(body: &str, expected: Result<&[Method], &str>) {
        let found = lines(body.as_bytes());
        match (&found, expected) {
            (Ok(calls), Ok(methods)) => {
                assert_eq!(calls.iter().map(|call| call.method).collect::<Vec<_>>(), methods, "{body}");
            }
            (Err(error), Err(message)) => {
                assert_eq!(error.status.as_u16(), 400, "{body}");
                assert!(error.message.contains(message), "{body}: {}", error.message);
            }
            _ => panic!("{body}: {found:?}"),
        }
    }

    #[test]
    fn each_line_is_a_call() {
        check_lines(r#"{"method":"info"}"#, Ok(&[Method::Node(NodeMethod::Info)]));
        check_lines(
            "{\"method\":\"publish\",\"params\":{\"channel\":\"a\"}}\n{\"method\":\"info\",\"params\":null}\r\n",
            Ok(&[Method::Node(NodeMethod::Publish), Method::Node(NodeMethod::Info)]),
        );
        check_lines("", Err("the body is empty"));
        check_lines("\n", Err("the body is empty"));
        check_lines("{}", Err("method must be one of publish, broadcast"));
        check_lines(r#"{"method":"nothing"}"#, Err("method must be one of publish, broadcast"));
        check_lines(r#"{"method":1}"#, Err("each line is an object"));
        check_lines(r#"{"method":"info","params":[]}"#, Err("each line is an object"));
        check_lines("{\"method\":\"info\"}\n[]", Err("must be a JSON object"));
        check_lines("{\"method\":\"info\"} {\"method\":\"info\"}", Err("trailing characters"));
        check_lines(&"{\"method\":\"info\"}\n".repeat(1_001), Err("at most 1000 commands"));
    }

    #[test]
    fn each_command_of_a_batch_is_a_call_or_has_an_error() {
        let body = br#"{"commands":[{"publish":{"channel":"a"}},{"nothing":{}},{},{"info":{},"publish":{}},{"info":[]}],"parallel":true}"#;
        let found = batch(body).unwrap();
        let methods: Vec<_> = found.iter().map(|call| call.as_ref().ok().map(|call| call.method)).collect();
        assert_eq!(methods, [Some(Method::Node(NodeMethod::Publish)), None, None, None, None]);
        for bad in ["", "[]", "null", r#"{"commands":{}}"#, r#"{"commands":[1]}"#, r#"{"commands":[]} "a""#] {
            assert_eq!(batch(bad.as_bytes()).map_err(|error| error.code).err(), Some("json"), "{bad}");
        }
        assert_eq!(batch(b"{}").map(|commands| commands.len()), Ok(0));
        let many = |number| format!(r#"{{"commands":[{}]}}"#, vec![r#"{"info":{}}"#; number].join(","));
        assert_eq!(batch(many(1_000).as_bytes()).map(|commands| commands.len()), Ok(1_000));
        assert_eq!(batch(many(1_001).as_bytes()).map_err(|error| error.code).err(), Some("batch"));
    }

    proptest::proptest! {
        #[test]
        fn any_body_is_a_request_or_an_error_of_the_client(
            body in proptest::collection::vec(proptest::prelude::any::<u8>(), 0..60),
        ) {
            let errors = [single(Method::Node(NodeMethod::Info), &body).err(), batch(&body).err(), lines(&body).err()];
            for error in errors.into_iter().flatten() {
                proptest::prop_assert!(error.status.is_client_error() && !error.message.is_empty());
            }
        }
    }
}
