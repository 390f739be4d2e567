//! As much HTTP/1.1 as a scrape takes: the head of one request, whatever the bytes, and its answer.

/// What is known of a request so far.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Asked {
    /// Its head goes on.
    More,
    /// Somebody wants the metrics.
    Metrics,
    /// Only what stands before them.
    Head,
    /// It can't be answered.
    Bad(Refusal),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Refusal {
    BadRequest,
    NotFound,
    MethodNotAllowed,
    TimedOut,
    TooLarge,
}

/// What the bytes that came until now ask for.
pub(super) fn asked(bytes: &[u8]) -> Asked {
    let end = bytes.windows(4).position(|it| it == b"\r\n\r\n");
    let Some(end) = end else {
        // What can be no request is not waited for.
        let first = bytes.first().is_none_or(u8::is_ascii_uppercase);
        return match first {
            false => Asked::Bad(Refusal::BadRequest),
            true if bytes.len() > HEAD_BYTES_MAX => Asked::Bad(Refusal::TooLarge),
            true => Asked::More,
        };
    };
    if end > HEAD_BYTES_MAX {
        return Asked::Bad(Refusal::TooLarge);
    }
    let head = std::str::from_utf8(&bytes[..end]).ok();
    head.and_then(of_head).unwrap_or(Asked::Bad(Refusal::BadRequest))
}

fn of_head(head: &str) -> Option<Asked> {
    let (line, fields) = head.split_once("\r\n").unwrap_or((head, ""));
    let mut words = line.split(' ');
    let (method, target, version) = (words.next()?, words.next()?, words.next()?);
    let is_http = ["HTTP/1.1", "HTTP/1.0"].contains(&version) && words.next().is_none();
    let are_fields = fields.is_empty() || fields.split("\r\n").all(is_field);
    let is_method = !method.is_empty() && method.bytes().all(|byte| byte.is_ascii_uppercase());
    if !is_http || !are_fields || !is_method || !target.starts_with('/') {
        return None;
    }
    let path = target.split('?').next().unwrap_or_default();
    Some(match (path, method) {
        ("/metrics", "GET") => Asked::Metrics,
        ("/metrics", "HEAD") => Asked::Head,
        ("/metrics", _) => Asked::Bad(Refusal::MethodNotAllowed),
        _ => Asked::Bad(Refusal::NotFound),
    })
}

fn is_field(line: &str) -> bool {
    let name = line.split_once(':').map(|(name, _)| name);
    name.is_some_and(|name| !name.is_empty() && !name.contains([' ', '\t']))
}

/// The metrics as an answer; without `body`, what stands before them.
pub(super) fn answer(text: &str, body: bool) -> Vec<u8> {
    let head = format!(
        "HTTP/1.1 200 OK\r\nContent-Type: text/plain; version=0.0.4; charset=utf-8\r\n\
         Content-Length: {}\r\nConnection: close\r\n\r\n",
        text.len()
    );
    let body = if body { text } else { "" };
    [head.as_bytes(), body.as_bytes()].concat()
}

impl Refusal {
    /// As an answer.
    pub(super) fn answer(self) -> Vec<u8> {
        let (line, more) = match self {
            Self::BadRequest => ("400 Bad Request", ""),
            Self::NotFound => ("404 Not Found", ""),
            Self::MethodNotAllowed => ("405 Method Not Allowed", "Allow: GET, HEAD\r\n"),
            Self::TimedOut => ("408 Request Timeout", ""),
            Self::TooLarge => ("431 Request Header Fields Too Large", ""),
        };
        let body = format!("{line}; the metrics are at /metrics\n");
        let len = body.len();
        format!(
            "HTTP/1.1 {line}\r\n{more}Content-Type: text/plain\r\nContent-Length: {len}\r\n\
             Connection: close\r\n\r\n{body}"
        )
        .into_bytes()
    }
}

/// Browsers' heads have about one KiB.
pub(super) const HEAD_BYTES_MAX: usize = 8 << 10;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_is_what_its_head_says_and_nothing_before_its_end() {
        use Refusal::{BadRequest, MethodNotAllowed, NotFound};
        let table: [(&str, Asked); 19] = [
            ("", Asked::More),
            ("GET /metrics HTTP/1.1\r\nHost: x\r\n", Asked::More),
            ("GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n", Asked::Metrics),
            ("GET /metrics HTTP/1.0\r\n\r\n", Asked::Metrics),
            ("GET /metrics?x=1 HTTP/1.1\r\nA: b\r\nC:\r\n\r\n", Asked::Metrics),
            ("HEAD /metrics HTTP/1.1\r\n\r\n", Asked::Head),
            (
                "POST /metrics HTTP/1.1\r\nContent-Length: 3\r\n\r\nabc",
                Asked::Bad(MethodNotAllowed),
            ),
            ("GET / HTTP/1.1\r\n\r\n", Asked::Bad(NotFound)),
            ("GET /metricsx HTTP/1.1\r\n\r\n", Asked::Bad(NotFound)),
            ("DELETE /x HTTP/1.1\r\n\r\n", Asked::Bad(NotFound)),
            ("GET /metrics HTTP/2\r\n\r\n", Asked::Bad(BadRequest)),
            ("GET /metrics\r\n\r\n", Asked::Bad(BadRequest)),
            ("GET  /metrics HTTP/1.1\r\n\r\n", Asked::Bad(BadRequest)),
            ("GET metrics HTTP/1.1\r\n\r\n", Asked::Bad(BadRequest)),
            ("GeT /metrics HTTP/1.1\r\n\r\n", Asked::Bad(BadRequest)),
            ("GET /metrics HTTP/1.1\r\nno field\r\n\r\n", Asked::Bad(BadRequest)),
            ("\r\n\r\n", Asked::Bad(BadRequest)),
            ("{\"verb\":\"info\"}\n", Asked::Bad(BadRequest)),
            ("\u{16}\u{3}\u{1}", Asked::Bad(BadRequest)),
        ];
        for (bytes, expected) in table {
            assert_eq!(asked(bytes.as_bytes()), expected, "{bytes:?}");
        }
        assert_eq!(asked(b"GET /\xff HTTP/1.1\r\n\r\n"), Asked::Bad(BadRequest));
    }

    #[test]
    fn a_head_without_an_end_has_one() {
        let mut head = b"GET /metrics HTTP/1.1\r\n".to_vec();
        head.resize(HEAD_BYTES_MAX, b'a');
        assert_eq!(asked(&head), Asked::More);
        head.resize(HEAD_BYTES_MAX + 1, b'a');
        assert_eq!(asked(&head), Asked::Bad(Refusal::TooLarge));
        head.extend(b"\r\n\r\n");
        assert_eq!(asked(&head), Asked::Bad(Refusal::TooLarge));
    }

    #[test]
    fn an_answer_is_as_long_as_it_says() {
        let all =
            [answer("a 1\n", true), Refusal::NotFound.answer(), Refusal::MethodNotAllowed.answer()];
        for answer in all {
            let text = String::from_utf8(answer).unwrap();
            let (head, body) = text.split_once("\r\n\r\n").unwrap();
            assert!(head.contains(&format!("Content-Length: {}", body.len())), "{text}");
        }
        assert!(answer("a 1\n", false).ends_with(b"\r\n\r\n"));
    }
}
