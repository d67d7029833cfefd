//! The URL to probe.

use std::borrow::Cow;

use url::{Host, Url};

/// A WebSocket or HTTP URL, in parts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Target {
    pub(crate) is_tls: bool,
    /// A name or an address, without brackets.
    pub(crate) host: String,
    pub(crate) port: u16,
    pub(crate) path: String,
    pub(crate) query: Option<String>,
}

impl Target {
    /// Parses a URL.
    ///
    /// # Errors
    /// The reason, as a sentence without the URL, which may contain a token.
    pub(crate) fn parse(text: &str) -> Result<Target, String> {
        let scheme = text.split_once("://").map(|(scheme, _)| scheme.to_ascii_lowercase());
        let is_tls = match scheme.as_deref() {
            Some("ws" | "http") => false,
            Some("wss" | "https") => true,
            _ => {
                return Err(
                    "a URL begins with ws:// or wss://, for example ws://localhost:9191/ws".to_owned()
                );
            }
        };
        let url = Url::parse(text).map_err(|error| format!("the URL cannot be parsed: {error}"))?;
        if !url.username().is_empty() || url.password().is_some() {
            return Err(
                "browsers send no user and password of a ws:// URL; use --header or --cookie".to_owned()
            );
        }
        if url.fragment().is_some() {
            return Err("a WebSocket URL has no fragment; leave out # and the text after it".to_owned());
        }
        let host = match url.host() {
            Some(Host::Domain(name)) => name.to_owned(),
            Some(Host::Ipv4(address)) => address.to_string(),
            Some(Host::Ipv6(address)) => address.to_string(),
            None => return Err("the URL has no host".to_owned()),
        };
        Ok(Target {
            is_tls,
            host,
            port: url.port_or_known_default().unwrap_or(if is_tls { 443 } else { 80 }),
            path: url.path().to_owned(),
            query: url.query().map(str::to_owned),
        })
    }

    /// Returns the value of `Host`.
    pub(crate) fn authority(&self) -> String {
        let host = self.bracketed();
        let default = if self.is_tls { 443 } else { 80 };
        if self.port == default { host.into_owned() } else { format!("{host}:{}", self.port) }
    }

    /// Returns the origin of a page of this host.
    pub(crate) fn origin(&self) -> String {
        let scheme = if self.is_tls { "https" } else { "http" };
        format!("{scheme}://{}", self.authority())
    }

    /// Returns the path with the query.
    pub(crate) fn path_and_query(&self) -> String {
        match &self.query {
            Some(query) => format!("{}?{query}", self.path),
            None => self.path.clone(),
        }
    }

    /// Returns the path with the parameters that are not credentials.
    pub(crate) fn without_credentials(&self) -> String {
        let parameters: Vec<&str> = self.parameters().filter(|parameter| !is_credential(parameter)).collect();
        if parameters.is_empty() {
            self.path.clone()
        } else {
            format!("{}?{}", self.path, parameters.join("&"))
        }
    }

    /// Returns the values of parameters that are credentials.
    pub(crate) fn credentials(&self) -> impl Iterator<Item = &str> {
        self.parameters()
            .filter(|parameter| is_credential(parameter))
            .filter_map(|parameter| Some(parameter.split_once('=')?.1))
    }

    /// Returns the URL without its query, which may contain a token.
    pub(crate) fn shown(&self) -> String {
        let scheme = if self.is_tls { "wss" } else { "ws" };
        let query = if self.query.is_some() { "?…" } else { "" };
        format!("{scheme}://{}{}{query}", self.authority(), self.path)
    }

    fn parameters(&self) -> impl Iterator<Item = &str> {
        self.query.iter().flat_map(|query| query.split('&')).filter(|parameter| !parameter.is_empty())
    }

    fn bracketed(&self) -> Cow<'_, str> {
        if self.host.contains(':') { format!("[{}]", self.host).into() } else { (&*self.host).into() }
    }
}

/// Whether a parameter of a query is a credential, by its name.
fn is_credential(parameter: &str) -> bool {
    let name = parameter.split('=').next().unwrap_or_default().to_ascii_lowercase();
    ["token", "jwt", "auth", "ticket", "key", "secret", "session"].iter().any(|part| name.contains(part))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_of_urls() {
        let target = Target::parse("wss://Chat.Example.com/ws?room=7&access_token=abc").unwrap();
        assert_eq!(target.authority(), "chat.example.com");
        assert_eq!(target.origin(), "https://chat.example.com");
        assert_eq!(target.path_and_query(), "/ws?room=7&access_token=abc");
        assert_eq!(target.without_credentials(), "/ws?room=7");
        assert_eq!(target.credentials().collect::<Vec<_>>(), ["abc"]);
        assert_eq!(target.shown(), "wss://chat.example.com/ws?…");
        let target = Target::parse("http://[::1]:9191").unwrap();
        assert_eq!((&*target.host, target.port, &*target.path), ("::1", 9191, "/"));
        assert_eq!((&*target.authority(), &*target.shown()), ("[::1]:9191", "ws://[::1]:9191/"));
    }

    #[test]
    fn text_that_is_not_a_websocket_url_is_refused() {
        for text in
            ["", "localhost:9191/ws", "ftp://a/", "ws://", "ws://a:b@c/", "ws://a/#b", "ws://a:99999/"]
        {
            let reason = Target::parse(text).unwrap_err();
            assert!(!reason.is_empty() && !reason.contains("a:b"), "{text}: {reason}");
        }
    }
}
