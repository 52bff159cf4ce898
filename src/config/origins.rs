use std::str::FromStr;

use axum::http::HeaderValue;

/// Origins of web pages that may call the API (the Fetch standard's CORS protocol).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum CorsOrigins {
    /// None: browsers let only pages of the server itself call it.
    #[default]
    None,
    /// These, as browsers write them in `Origin`.
    Listed(Vec<HeaderValue>),
    /// All.
    Any,
}

impl CorsOrigins {
    /// Whether pages of an origin may call the API.
    pub fn allow(&self, origin: &HeaderValue) -> bool {
        match self {
            Self::None => false,
            Self::Listed(origins) => origins.contains(origin),
            Self::Any => true,
        }
    }
}

impl FromStr for CorsOrigins {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.trim() {
            "" => Ok(Self::None),
            "*" => Ok(Self::Any),
            list => list
                .split(',')
                .map(|one| origin(one.trim()))
                .collect::<Result<_, _>>()
                .map(Self::Listed),
        }
    }
}

/// Refuses what no browser sends: it would never match.
fn origin(text: &str) -> Result<HeaderValue, String> {
    let wrong = |reason: &str| Err(format!("{text:?} {reason}, as in https://app.example"));
    let Some((scheme, host)) = text.split_once("://") else {
        return wrong("is no origin: write scheme and host");
    };
    if host.is_empty() || host.contains(['/', '?', '#', '@', '*', ' ']) {
        return wrong("has more or less than scheme, host and port: write only these");
    }
    if text.bytes().any(|byte| byte.is_ascii_uppercase() || !byte.is_ascii_graphic()) {
        return wrong("is not as browsers send it: write it in lower case, without spaces");
    }
    let usual = match scheme {
        "http" => ":80",
        "https" => ":443",
        _ => "",
    };
    if !usual.is_empty() && host.ends_with(usual) {
        return wrong("has the usual port, which browsers leave out: leave it out");
    }
    HeaderValue::try_from(text).map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_browsers_send_is_an_origin() {
        for good in [
            "https://app.example",
            "http://localhost:3000",
            "capacitor://localhost",
            "http://[::1]:8080",
            "https://a.example, https://b.example:8443",
        ] {
            assert!(matches!(good.parse(), Ok(CorsOrigins::Listed(_))), "{good}");
        }
        assert_eq!("".parse(), Ok(CorsOrigins::None));
        assert_eq!("*".parse(), Ok(CorsOrigins::Any));
        for bad in [
            "app.example",
            "https://",
            "https://app.example/",
            "https://app.example/page",
            "https://*.example",
            "https://App.example",
            "https://app.example:443",
            "http://app.example:80",
            "null",
            "https://a.example,",
            "https://a.example,*",
        ] {
            assert!(bad.parse::<CorsOrigins>().is_err(), "{bad}");
        }
    }
}
