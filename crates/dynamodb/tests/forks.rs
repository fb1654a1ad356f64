//! Forks. They end the requests in flight of the whole process, so nothing else is tested here.

mod faulty;
use mintkey_store_testkit::requests;

use faulty::{Act, Faulty};
use mintkey_store::{ErrorKind, Reply};
use requests::{get_of, item, key, orders, submit};

#[test]
fn the_store_works_in_parent_and_child_after_a_fork() {
    let faulty = Faulty::new(&[Act::Reply(
        200,
        "{\"Item\":{\"pk\":{\"S\":\"a\"},\"sk\":{\"S\":\"1\"}}}".to_owned(),
    )]);
    let url = format!(
        "dynamodb://us-east-1?endpoint={}&timeout=20",
        faulty.endpoint
    );
    let store = mintkey_dynamodb::open(&url).unwrap();
    let read = || get_of(&orders(), key("a", "1"));
    let one = Some(item(&[("pk", "a".into()), ("sk", "1".into())]));
    assert_eq!(requests::run(&*store, read()).unwrap(), Reply::Item(one));
    submit(&*store, read()).1.recv().unwrap().unwrap();
    // Without a real fork: what the store does in the parent, then what it does in the child.
    store.before_fork();
    store.in_parent();
    requests::run(&*store, read()).unwrap();
    store.before_fork();
    store.in_child();
    requests::run(&*store, read()).unwrap();
    submit(&*store, read()).1.recv().unwrap().unwrap();
    store.close(&mintkey_store::store::Never);
    let refused = requests::run(&*store, read()).unwrap_err();
    assert_eq!(refused.kind, ErrorKind::Configuration);
}
