use std::convert::Infallible;

use proptest::prelude::{any, prop, proptest};

use super::{AnnotatedError, answer};

const TABLE: &str = "#datatype,string,long,dateTime:RFC3339,double,string\r\n\
    #group,false,false,false,false,true\r\n#default,0001,,,,\r\n,result,table,_time,_value,board\r\n\
    ,,0,2026-01-01T00:00:00Z,1.5,a\r\n,,0,2026-01-01T00:00:01Z,2,\"b,c\"\r\n\r\n";

type Read = (usize, String, Option<f64>);

fn read(text: &str) -> Result<Vec<Read>, AnnotatedError<Infallible>> {
    let mut rows = Vec::new();
    answer(text.as_bytes(), &["board".to_owned()], |named| {
        rows.push((named.statement, named.tags[0].clone(), named.row.value));
        Ok(())
    })?;
    Ok(rows)
}

#[test]
fn rows_take_what_is_empty_from_the_defaults() {
    let rows = read(TABLE).unwrap();
    assert_eq!(
        rows,
        [(1, "a".into(), Some(1.5)), (1, "b,c".into(), Some(2.0))]
    );
    let other = TABLE.replace("board", "room");
    assert_eq!(read(&other).unwrap()[0].1, "");
    assert!(read(&TABLE.replace(",1.5,a", ",1.5")).is_err());
    assert_eq!(read("").unwrap(), []);
    // A table without defaults does not take those of the one before.
    let bare = "#datatype,string,long,dateTime:RFC3339,double\r\n,result,table,_time,_value\r\n\
        ,,1,2026-01-01T00:00:00Z,3\r\n";
    let error = read(&format!("{TABLE}{bare}")).unwrap_err().to_string();
    assert_eq!(error, "a result without number");
}

proptest! {
    #[test]
    fn no_text_does_harm(bytes in prop::collection::vec(any::<u8>(), 0..200), at in 0_usize..250) {
        let head = &TABLE.as_bytes()[..at.min(TABLE.len())];
        let _ = answer::<_, Infallible>(&*[head, &bytes].concat(), &["board".to_owned()], |_| Ok(()));
    }
}
