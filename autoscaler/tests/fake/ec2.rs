//! EC2 on a free port, as far as the provider calls it, in EC2's own query protocol. Unlike moto it honours client tokens
//! ("Ensuring idempotency in Amazon EC2 API requests"): the same call again gives the same instances, another one under
//! the same token is refused. It has as many machines as it is told, and fails as it is told.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard};

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use axum::{Form, Router};
use tokio::net::TcpListener;

/// The only launch template, and the number of its only version.
pub const TEMPLATE: &str = "lt-0123456789abcdef0";
pub const VERSION: &str = "7";

/// A call's parameters, such as `TagSpecification.1.Tag.2.Key`.
type Parameters = BTreeMap<String, String>;
/// An error's code, and its message.
type Refusal = (&'static str, String);

/// EC2. Clones are the same.
#[derive(Clone, Default)]
pub struct FakeEc2 {
    state: Arc<Mutex<Cloud>>,
}

#[derive(Default)]
struct Cloud {
    instances: BTreeMap<String, Instance>,
    /// By call and token: what was asked for, and what was answered.
    answered: BTreeMap<(String, String), (Parameters, String)>,
    /// Machines that can be had yet; `None`: any number.
    capacity: Option<usize>,
    failures: VecDeque<&'static str>,
    without: BTreeSet<&'static str>,
    calls: Vec<String>,
}

struct Instance {
    state: &'static str,
    tags: BTreeMap<String, String>,
    instance_type: String,
    is_spot: bool,
}

impl FakeEc2 {
    /// Starts it; its address.
    pub async fn start(&self) -> String {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let router = Router::new().route("/", post(answer)).with_state(self.clone());
        tokio::spawn(async move { axum::serve(listener, router).await });
        format!("http://{address}")
    }

    fn lock(&self) -> MutexGuard<'_, Cloud> {
        self.state.lock().unwrap()
    }

    /// No more than so many machines can be had from now on.
    pub fn limit(&self, capacity: usize) {
        self.lock().capacity = Some(capacity);
    }

    /// The next call fails with this code.
    pub fn fail(&self, code: &'static str) {
        self.lock().failures.push_back(code);
    }

    /// This call does not exist here.
    pub fn lacks(&self, action: &'static str) {
        self.lock().without.insert(action);
    }

    /// How many instances there ever were.
    pub fn ever(&self) -> usize {
        self.lock().instances.len()
    }

    /// The types of all instances, and whether each is on the spot market.
    pub fn kinds(&self) -> Vec<(String, bool)> {
        self.lock().instances.values().map(|one| (one.instance_type.clone(), one.is_spot)).collect()
    }

    /// The calls that were made, in order.
    pub fn calls(&self) -> Vec<String> {
        self.lock().calls.clone()
    }
}

async fn answer(State(ec2): State<FakeEc2>, Form(parameters): Form<Parameters>) -> Response {
    let action = parameters["Action"].clone();
    match ec2.lock().call(&action, &parameters) {
        Ok(body) => format!("<{action}Response>{body}</{action}Response>").into_response(),
        Err((code, message)) => {
            let error = format!("<Error><Code>{code}</Code><Message>{message}</Message></Error>");
            let body = format!("<Response><Errors>{error}</Errors><RequestID>r</RequestID></Response>");
            (StatusCode::BAD_REQUEST, body).into_response()
        }
    }
}

/// A set, as EC2 writes it.
fn items<T>(things: impl IntoIterator<Item = T>, inner: impl Fn(T) -> String) -> String {
    let mut set = String::new();
    for thing in things {
        set += "<item>";
        set += &inner(thing);
        set += "</item>";
    }
    set
}

/// The values of `PREFIX.1.SUFFIX`, `PREFIX.2.SUFFIX` and so on.
fn listed<'a>(parameters: &'a Parameters, prefix: &str, suffix: &str) -> Vec<&'a str> {
    let key = |number: usize| format!("{prefix}.{number}{suffix}");
    (1..).map_while(|number| parameters.get(&key(number)).map(String::as_str)).collect()
}

/// The tags that instances are to have.
fn tags(parameters: &Parameters) -> BTreeMap<String, String> {
    let kinds = listed(parameters, "TagSpecification", ".ResourceType");
    let number = kinds.iter().position(|kind| *kind == "instance").map_or(0, |at| at + 1);
    let of = |part: &str| listed(parameters, &format!("TagSpecification.{number}.Tag"), part);
    of(".Key").iter().zip(of(".Value")).map(|(key, value)| ((*key).to_owned(), value.to_owned())).collect()
}

impl Cloud {
    fn call(&mut self, action: &str, parameters: &Parameters) -> Result<String, Refusal> {
        self.calls.push(action.to_owned());
        if let Some(code) = self.failures.pop_front() {
            return Err((code, "as was wished".to_owned()));
        }
        if self.without.contains(action) {
            return Err(("InvalidAction", format!("The action {action} is not valid for this web service.")));
        }
        match action {
            "DescribeLaunchTemplateVersions" => Self::template_versions(parameters),
            "CreateFleet" | "RunInstances" => self.launch(action, parameters),
            "DescribeInstances" => Ok(self.describe(parameters)),
            "TerminateInstances" => self.terminate(parameters),
            other => Err(("InvalidAction", format!("The action {other} is not known here."))),
        }
    }

    fn template_versions(parameters: &Parameters) -> Result<String, Refusal> {
        let id = &parameters["LaunchTemplateId"];
        if id != TEMPLATE {
            let message = format!("The specified launch template, with template ID {id}, does not exist.");
            return Err(("InvalidLaunchTemplateId.NotFound", message));
        }
        let item =
            format!("<launchTemplateId>{id}</launchTemplateId><versionNumber>{VERSION}</versionNumber>");
        Ok(format!("<launchTemplateVersionSet><item>{item}</item></launchTemplateVersionSet>"))
    }

    fn launch(&mut self, action: &str, parameters: &Parameters) -> Result<String, Refusal> {
        let token = parameters.get("ClientToken").expect("each launch has a token");
        let key = (action.to_owned(), token.clone());
        if let Some((asked, answer)) = self.answered.get(&key) {
            let mismatch =
                ("IdempotentParameterMismatch", "The token was used for another request.".to_owned());
            return if asked == parameters { Ok(answer.clone()) } else { Err(mismatch) };
        }
        let answer = if action == "CreateFleet" {
            self.create_fleet(parameters)
        } else {
            self.run_instances(parameters)?
        };
        self.answered.insert(key, (parameters.clone(), answer.clone()));
        Ok(answer)
    }

    /// As many as there are, at most `count`.
    fn make(
        &mut self,
        count: usize,
        instance_type: &str,
        is_spot: bool,
        parameters: &Parameters,
    ) -> Vec<String> {
        let count = self.capacity.map_or(count, |capacity| capacity.min(count));
        if let Some(capacity) = &mut self.capacity {
            *capacity -= count;
        }
        let first = self.instances.len() + 1;
        let ids: Vec<String> = (first..first + count).map(|number| format!("i-{number:017x}")).collect();
        for id in &ids {
            let instance_type = instance_type.to_owned();
            let instance = Instance { state: "pending", tags: tags(parameters), instance_type, is_spot };
            self.instances.insert(id.clone(), instance);
        }
        ids
    }

    fn create_fleet(&mut self, parameters: &Parameters) -> String {
        const CONFIG: &str = "LaunchTemplateConfigs.1";
        assert_eq!(parameters["Type"], "instant");
        assert_eq!(parameters[&format!("{CONFIG}.LaunchTemplateSpecification.Version")], VERSION);
        let wanted = parameters["TargetCapacitySpecification.TotalTargetCapacity"].parse().unwrap();
        let is_spot = parameters["TargetCapacitySpecification.DefaultTargetCapacityType"] == "spot";
        let instance_type = parameters[&format!("{CONFIG}.Overrides.1.InstanceType")].clone();
        let ids = self.make(wanted, &instance_type, is_spot, parameters);
        let items = items(&ids, String::clone);
        let mut body = "<fleetId>fleet-1</fleetId>".to_owned();
        if ids.len() < wanted {
            body += "<errorSet><item><errorCode>InsufficientInstanceCapacity</errorCode>\
                     <errorMessage>There is no Spot capacity available.</errorMessage></item></errorSet>";
        }
        if !ids.is_empty() {
            body += "<fleetInstanceSet><item><instanceIds>";
            body += &items;
            body += "</instanceIds></item></fleetInstanceSet>";
        }
        body
    }

    fn run_instances(&mut self, parameters: &Parameters) -> Result<String, Refusal> {
        assert_eq!(parameters["LaunchTemplate.Version"], VERSION);
        let (least, most): (usize, usize) =
            (parameters["MinCount"].parse().unwrap(), parameters["MaxCount"].parse().unwrap());
        if self.capacity.is_some_and(|capacity| capacity < least) {
            let message = "We currently do not have sufficient capacity.".to_owned();
            return Err(("InsufficientInstanceCapacity", message));
        }
        let is_spot = parameters.get("InstanceMarketOptions.MarketType").is_some_and(|kind| kind == "spot");
        let instance_type = parameters["InstanceType"].clone();
        let ids = self.make(most, &instance_type, is_spot, parameters);
        let items = items(&ids, |id| format!("<instanceId>{id}</instanceId>"));
        Ok(format!("<instancesSet>{items}</instancesSet>"))
    }

    fn describe(&self, parameters: &Parameters) -> String {
        let name = parameters["Filter.1.Name"].strip_prefix("tag:").expect("machines are looked for by tag");
        let value = &parameters["Filter.1.Value.1"];
        let found = self.instances.iter().filter(|(_, one)| one.tags.get(name) == Some(value));
        let items = items(found, |(id, instance)| {
            let tags =
                items(&instance.tags, |(key, value)| format!("<key>{key}</key><value>{value}</value>"));
            format!(
                "<instanceId>{id}</instanceId><instanceState><name>{}</name></instanceState>\
                 <launchTime>2027-06-05T12:00:00.000Z</launchTime><tagSet>{tags}</tagSet>",
                instance.state
            )
        });
        format!("<reservationSet><item><instancesSet>{items}</instancesSet></item></reservationSet>")
    }

    /// All or none, as EC2 does.
    fn terminate(&mut self, parameters: &Parameters) -> Result<String, Refusal> {
        let ids = listed(parameters, "InstanceId", "");
        if let Some(unknown) = ids.iter().find(|id| !self.instances.contains_key(**id)) {
            let message = format!("The instance ID '{unknown}' does not exist");
            return Err(("InvalidInstanceID.NotFound", message));
        }
        for id in ids {
            self.instances.get_mut(id).unwrap().state = "terminated";
        }
        Ok("<instancesSet/>".to_owned())
    }
}
