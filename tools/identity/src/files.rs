//! The files of an example, below `/example/`.
//!
//! They are read for each request, so a change of a file is visible after a reload of the page.

use std::fs;
use std::path::PathBuf;

use http_body_util::Full;
use hyper::Response;
use hyper::body::Bytes;
use hyper::header::{CACHE_CONTROL, CONTENT_TYPE, HeaderValue, X_CONTENT_TYPE_OPTIONS};

use crate::page::page_of_file;

/// The folders with the files. A file is in the first folder that has one with its name.
#[derive(Clone, Debug, Default)]
pub struct Files {
    folders: Vec<PathBuf>,
}

impl Files {
    /// The path of the folders. Nothing follows it in the path of `index.html`.
    pub const PREFIX: &str = "/example/";

    /// Serves the files of these folders, without folders in them.
    pub fn new(folders: Vec<PathBuf>) -> Self {
        Self { folders }
    }

    /// Returns the file at a path, or `None` if there is none, or if it is not a part of a page.
    pub fn answer(&self, path: &str) -> Option<Response<Full<Bytes>>> {
        let name = match path.strip_prefix(Self::PREFIX)? {
            "" => "index.html",
            name => name,
        };
        // Such a name does not lead out of its folder.
        let is_plain = name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte));
        if !is_plain || name.starts_with('.') {
            return None;
        }
        let (_, extension) = name.rsplit_once('.')?;
        let content_type = match extension {
            "html" => return self.read(name).map(|page| page_of_file(&String::from_utf8_lossy(&page))),
            "css" => "text/css; charset=utf-8",
            "js" => "text/javascript; charset=utf-8",
            "svg" => "image/svg+xml",
            _ => return None,
        };
        let mut response = Response::new(Full::new(Bytes::from(self.read(name)?)));
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
        headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
        Some(response)
    }

    fn read(&self, name: &str) -> Option<Vec<u8>> {
        self.folders.iter().find_map(|folder| fs::read(folder.join(name)).ok())
    }
}

#[cfg(test)]
mod tests {
    use http_body_util::BodyExt;
    use hyper::header::CONTENT_SECURITY_POLICY;

    use super::*;

    /// Returns a folder below the temporary one of this process.
    fn folder(name: &str, files: &[(&str, &str)]) -> PathBuf {
        let folder = std::env::temp_dir().join(format!("postern-identity-{}-{name}", std::process::id()));
        fs::create_dir_all(&folder).expect("a folder");
        for (name, text) in files {
            fs::write(folder.join(name), text).expect("a file");
        }
        folder
    }

    #[test]
    fn files_come_from_the_first_folder_that_has_them() {
        let page =
            folder("page", &[("index.html", "<script>1</script>"), ("a.js", "page"), ("channels.toml", "x")]);
        let sdk = folder("sdk", &[("a.js", "sdk"), ("sdk.js", "sdk"), (".hidden.js", "x")]);
        let files = Files::new(vec![page.clone(), sdk.clone()]);
        let text = |path: &str| {
            let body = smol::block_on(files.answer(path)?.into_body().collect()).expect("it is complete");
            Some(String::from_utf8(body.to_bytes().to_vec()).expect("it is UTF-8"))
        };
        assert_eq!(text("/example/a.js").as_deref(), Some("page"));
        assert_eq!(text("/example/sdk.js").as_deref(), Some("sdk"));
        let index = files.answer("/example/").expect("the page");
        assert!(index.headers().contains_key(CONTENT_SECURITY_POLICY));
        assert!(text("/example/").expect("the page").starts_with("<script nonce="));

        let inside = page.file_name().expect("a name").to_string_lossy();
        let outside = [
            "/example/channels.toml".to_owned(),
            "/example/none.js".to_owned(),
            "/example/.hidden.js".to_owned(),
            format!("/example/../{inside}/a.js"),
            format!("/example/..%2f{inside}%2fa.js"),
            format!("/example/{}", page.join("a.js").display()),
            "/example/a.js/".to_owned(),
            "/examples/a.js".to_owned(),
        ];
        for path in outside {
            assert!(text(&path).is_none(), "{path}");
        }
        for folder in [page, sdk] {
            fs::remove_dir_all(folder).expect("it is ours");
        }
    }
}
