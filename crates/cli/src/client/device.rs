//! How devices are signed in through a client: options, and what is shown of it.

use clap::{Args, ValueEnum};
use keyward_model::rights::ScopeSet;
use keyward_server::api::clients::DeviceGrantView;

use super::or_none;

/// How devices are signed in through a client.
#[derive(Args)]
pub(super) struct DeviceOptions {
    /// Whether users may sign in devices through it (RFC 8628).
    #[arg(long, value_name = "on|off")]
    device_grant: Option<Switch>,
    /// The most a device is given, if less than the client has.
    #[arg(long, value_name = "SCOPES", requires = "device_grant")]
    device_scope: Option<ScopeSet>,
    /// The device must give digits that the browser shows at the approval.
    #[arg(long, requires = "device_grant")]
    device_confirmation: bool,
}

impl DeviceOptions {
    /// What is to be changed: `None` if nothing.
    pub(super) fn change(self) -> Option<Option<DeviceGrantView>> {
        let view = DeviceGrantView { scope: self.device_scope, confirmation: self.device_confirmation };
        self.device_grant.map(|switch| (switch == Switch::On).then_some(view))
    }
}

/// On or off.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Switch {
    On,
    Off,
}

/// What users may let devices have that they sign in.
pub(super) fn text(policy: Option<&DeviceGrantView>) -> String {
    let Some(policy) = policy else { return "none may be signed in".to_owned() };
    let scope = or_none(policy.scope.as_ref().map(ToString::to_string).unwrap_or_default());
    if policy.confirmation { format!("{scope}, by digits") } else { scope }
}
