//! How devices are signed in through a client.

use keyward_model::device_grant::DevicePolicy;
use keyward_model::rights::ScopeSet;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// That devices may be signed in through a client (RFC 8628), and how.
#[derive(Debug, Clone, Default, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = DeviceGrant)]
pub struct DeviceGrantView {
    /// The most a device is given: space-separated scopes, of those the client has; if absent, those the client has now.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub scope: Option<ScopeSet>,
    /// Whether the device must give three digits that the browser shows at the approval (`confirmation` at `/token`).
    #[serde(default)]
    pub confirmation: bool,
}

impl DeviceGrantView {
    /// What is kept of it for a client with these scopes.
    pub(super) fn policy(self, of_client: &ScopeSet) -> DevicePolicy {
        DevicePolicy { scope: self.scope.unwrap_or_else(|| of_client.clone()), confirmation: self.confirmation }
    }
}

impl From<DevicePolicy> for DeviceGrantView {
    fn from(policy: DevicePolicy) -> Self {
        Self { scope: Some(policy.scope), confirmation: policy.confirmation }
    }
}
