use std::time::Duration;

use bipedalnet_core::gait::Recording;
use reqwest::header::{ACCEPT, AUTHORIZATION, HeaderMap, HeaderValue};
use reqwest::{Method, Request, Url, redirect};

use crate::api::{
    ActivateDocument, ActivatedAnswer, BatchDocument, ChallengeAnswer, CollectionAnswer,
    CollectionDocument, CollectionsAnswer, Consent, EnrolledAnswer, EnrollmentsAnswer,
    ExportAnswer, IdentifyAnswer, ModelsAnswer, OutcomesAnswer, TokenAnswer, TokenDocument,
    TrainDocument, TrainingJobAnswer, TrainingJobsAnswer, UserAnswer, UserDocument, UsersAnswer,
    VerifyAnswer,
};
use crate::body::Body;
use crate::error::ClientError;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// How to verify. The default is the server's false match rate, without a session or a challenge.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct VerifyOptions {
    /// The false match rate (FMR) to decide at: 0.1, 0.01 or 0.001.
    pub fmr: Option<f64>,
    /// Name of a session. Walks of one session count together. The same characters as in a user's
    /// id are allowed.
    pub session: Option<String>,
    /// A nonce from [`Client::challenge`].
    pub challenge: Option<String>,
}

/// A client of one server. Needs a tokio runtime.
///
/// Clones are cheap and share connections.
///
/// If a change fails with [`ClientError::Transport`], the server may have made it all the same: the
/// response was lost.
#[derive(Clone, Debug)]
pub struct Client {
    pub(crate) http: reqwest::Client,
    pub(crate) server_url: Url,
    /// What requests about users name as their collection.
    pub(crate) collection: Option<String>,
}

impl Client {
    /// Makes a client for the server at `url`, with an API key if the server requires one.
    ///
    /// `https` trusts the system's certificates, or those in the file that the environment variable
    /// `SSL_CERT_FILE` names.
    ///
    /// # Errors
    /// If the URL or the key is invalid, or if there are no trusted certificates for `https`.
    pub fn new(url: &str, key: Option<String>) -> Result<Self, ClientError> {
        let invalid = |reason: String| ClientError::Url { url: url.to_owned(), reason };
        let server_url = Url::parse(url).map_err(|error| invalid(error.to_string()))?;
        if !matches!(server_url.scheme(), "http" | "https") {
            return Err(invalid(format!("{} is neither http nor https", server_url.scheme())));
        }
        if server_url.query().is_some() || server_url.fragment().is_some() {
            return Err(invalid("it has a query or a fragment".to_owned()));
        }
        let mut headers = HeaderMap::new();
        headers.insert(ACCEPT, HeaderValue::from_static("application/json"));
        if let Some(key) = key {
            let mut value =
                HeaderValue::try_from(format!("Bearer {key}")).map_err(|_| ClientError::Key)?;
            value.set_sensitive(true);
            headers.insert(AUTHORIZATION, value);
        }
        // Fails if the program has installed a TLS provider already; that one is used then.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let mut http = reqwest::Client::builder()
            .user_agent(concat!("bipedalnet/", env!("CARGO_PKG_VERSION")))
            .default_headers(headers)
            .connect_timeout(CONNECT_TIMEOUT)
            // A redirect would turn a POST into a GET.
            .redirect(redirect::Policy::none());
        if server_url.scheme() == "http" {
            // Works on a machine without certificates.
            http = http.tls_certs_only([]);
        }
        let http = http.build().map_err(ClientError::Start)?;
        Ok(Self { http, server_url, collection: None })
    }

    /// A client for the users of a collection. Without it, requests are about the only collection that the
    /// key is bound to, or about `default`.
    #[must_use]
    pub fn in_collection(&self, collection: &str) -> Self {
        Self { collection: Some(collection.to_owned()), ..self.clone() }
    }

    /// Lists up to 100 collections that follow `after` in the order of their ids.
    ///
    /// For the next page, pass the response's `next` as `after`.
    pub async fn collections(&self, after: Option<&str>) -> Result<CollectionsAnswer, ClientError> {
        let query: Vec<_> = after.map(|after| ("after", after.to_owned())).into_iter().collect();
        self.send(Method::GET, &["collections"], &query, None).await
    }

    /// Creates a collection, or sets the limits of one that exists.
    pub async fn put_collection(
        &self,
        collection: &str,
        limits: &CollectionDocument,
    ) -> Result<CollectionAnswer, ClientError> {
        let body = Body::of_document(limits);
        self.send(Method::PUT, &["collections", collection], &[], Some(body)).await
    }

    /// Reads a collection: its limits, and its number of users.
    pub async fn collection(&self, collection: &str) -> Result<CollectionAnswer, ClientError> {
        self.send(Method::GET, &["collections", collection], &[], None).await
    }

    /// Deletes a collection without users.
    pub async fn delete_collection(&self, collection: &str) -> Result<(), ClientError> {
        self.send(Method::DELETE, &["collections", collection], &[], None).await
    }

    /// Creates a user. Does nothing if the user exists.
    pub async fn put_user(&self, user: &str) -> Result<UserAnswer, ClientError> {
        self.send(Method::PUT, &["users", user], &[], None).await
    }

    /// Records a user's consent. Creates the user if needed.
    pub async fn record_consent(
        &self,
        user: &str,
        consent: Consent,
    ) -> Result<UserAnswer, ClientError> {
        let body = Body::of_document(&UserDocument { consent: Some(consent) });
        self.send(Method::PUT, &["users", user], &[], Some(body)).await
    }

    /// Reads a user: whether they are ready for recognition, and what is missing.
    pub async fn user(&self, user: &str) -> Result<UserAnswer, ClientError> {
        self.send(Method::GET, &["users", user], &[], None).await
    }

    /// Lists up to 100 users that follow `after` in the order of their ids.
    ///
    /// For the next page, pass the response's `next` as `after`.
    pub async fn users(&self, after: Option<&str>) -> Result<UsersAnswer, ClientError> {
        let query: Vec<_> = after.map(|after| ("after", after.to_owned())).into_iter().collect();
        self.send(Method::GET, &["users"], &query, None).await
    }

    /// Deletes a user and everything stored about them.
    pub async fn delete_user(&self, user: &str) -> Result<(), ClientError> {
        self.send(Method::DELETE, &["users", user], &[], None).await
    }

    /// Reads everything stored about a user.
    pub async fn export(&self, user: &str) -> Result<ExportAnswer, ClientError> {
        self.send(Method::GET, &["users", user, "export"], &[], None).await
    }

    /// Enrolls a walk. The user must exist.
    pub async fn enroll(
        &self,
        user: &str,
        recording: &Recording,
    ) -> Result<EnrolledAnswer, ClientError> {
        let body = Body::of_recording(recording);
        self.send(Method::POST, &["users", user, "enrollments"], &[], Some(body)).await
    }

    /// Lists a user's enrollments.
    pub async fn enrollments(&self, user: &str) -> Result<EnrollmentsAnswer, ClientError> {
        self.send(Method::GET, &["users", user, "enrollments"], &[], None).await
    }

    /// Deletes an enrollment.
    pub async fn delete_enrollment(&self, user: &str, enrollment: i64) -> Result<(), ClientError> {
        let path = ["users", user, "enrollments", &enrollment.to_string()];
        self.send(Method::DELETE, &path, &[], None).await
    }

    /// Identifies a walker (1:N) among all users, or only among those in `among`.
    pub async fn identify(
        &self,
        recording: &Recording,
        among: Option<&[&str]>,
    ) -> Result<IdentifyAnswer, ClientError> {
        let query: Vec<_> = among.map(|users| ("among", users.join(","))).into_iter().collect();
        let body = Body::of_recording(recording);
        self.send(Method::POST, &["identify"], &query, Some(body)).await
    }

    /// Creates a challenge for one verification of a user.
    pub async fn challenge(&self, user: &str) -> Result<ChallengeAnswer, ClientError> {
        self.send(Method::POST, &["users", user, "challenges"], &[], None).await
    }

    /// Creates a token of a user, for a phone: a [`Client`] with the token instead of a key may verify and
    /// enroll walks of this user only.
    pub async fn create_token(
        &self,
        user: &str,
        token: &TokenDocument,
    ) -> Result<TokenAnswer, ClientError> {
        let body = Body::of_document(token);
        self.send(Method::POST, &["users", user, "tokens"], &[], Some(body)).await
    }

    /// Verifies a user (1:1).
    pub async fn verify(
        &self,
        user: &str,
        recording: &Recording,
        options: &VerifyOptions,
    ) -> Result<VerifyAnswer, ClientError> {
        let VerifyOptions { fmr, session, challenge } = options.clone();
        let fmr = fmr.map(|fmr| fmr.to_string());
        let query: Vec<_> = [("fmr", fmr), ("session", session), ("challenge", challenge)]
            .into_iter()
            .filter_map(|(name, value)| Some((name, value?)))
            .collect();
        let body = Body::of_recording(recording);
        self.send(Method::POST, &["users", user, "verify"], &query, Some(body)).await
    }

    /// Sends up to 64 items in one request. [`walk`](crate::walk) makes their walks.
    ///
    /// Each item succeeds or fails on its own; a failed one has a `problem`.
    pub async fn batch(&self, batch: &BatchDocument) -> Result<OutcomesAnswer, ClientError> {
        self.send(Method::POST, &["batch"], &[], Some(Body::of_document(batch))).await
    }

    /// Lists models, oldest first.
    pub async fn models(&self) -> Result<ModelsAnswer, ClientError> {
        self.send(Method::GET, &["models"], &[], None).await
    }

    /// Downloads a model file. [`Model::from_bytes`](bipedalnet_core::bnn::Model::from_bytes) checks
    /// and reads it.
    pub async fn model_file(&self, model: &str) -> Result<Vec<u8>, ClientError> {
        Ok(self.fetch(Method::GET, &["models", model, "file"], &[], None).await?.1)
    }

    /// Activates a model. `force` activates it even if enrollments would be lost or it is less accurate.
    ///
    /// With many recordings, this can take longer than the client's time limit. The server carries on:
    /// [`Client::models`] shows which model is active, and another call waits for the rest.
    pub async fn activate(&self, model: &str, force: bool) -> Result<ActivatedAnswer, ClientError> {
        let body = Body::of_document(&ActivateDocument { force });
        self.send(Method::POST, &["models", model, "activate"], &[], Some(body)).await
    }

    /// Starts a training job on the server, and returns at once.
    pub async fn train(&self, document: &TrainDocument) -> Result<TrainingJobAnswer, ClientError> {
        let body = Body::of_document(document);
        self.send(Method::POST, &["training-jobs"], &[], Some(body)).await
    }

    /// Lists training jobs, newest first.
    pub async fn training_jobs(&self) -> Result<TrainingJobsAnswer, ClientError> {
        self.send(Method::GET, &["training-jobs"], &[], None).await
    }

    /// Reads a training job.
    pub async fn training_job(&self, job: i64) -> Result<TrainingJobAnswer, ClientError> {
        self.send(Method::GET, &["training-jobs", &job.to_string()], &[], None).await
    }

    /// Cancels a training job.
    pub async fn cancel_training_job(&self, job: i64) -> Result<(), ClientError> {
        self.send(Method::DELETE, &["training-jobs", &job.to_string()], &[], None).await
    }

    /// Checks once, within five seconds, whether the server runs.
    pub async fn live(&self) -> Result<(), ClientError> {
        let mut request = Request::new(Method::GET, self.url(&["livez"]));
        *request.timeout_mut() = Some(CONNECT_TIMEOUT);
        self.try_once(request).await.map(drop).map_err(|failed| failed.error)
    }
}
