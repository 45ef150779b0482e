"""Proper names of the synthetic training corpus: people, towns, countries, streets, to say and to spell."""

from __future__ import annotations

from vocabulary import words

NAMES = words(
    """
    mary john james robert michael william david richard joseph thomas charles daniel matthew anthony mark
    paul steven andrew george kenneth joshua kevin brian edward ronald timothy jason jeffrey ryan jacob
    gary nicholas eric jonathan stephen larry justin scott brandon benjamin samuel frank gregory raymond
    alexander patrick jack dennis jerry tyler aaron henry douglas peter adam nathan zachary walter kyle
    harold carl jeremy keith roger gerald ethan arthur terry christian sean lawrence austin joe noah jesse
    albert bryan billy bruce willie jordan dylan alan ralph gabriel roy juan wayne eugene logan randy
    louis russell vincent philip bobby johnny bradley patricia jennifer linda elizabeth barbara susan
    jessica sarah karen nancy lisa betty margaret sandra ashley kimberly emily donna michelle dorothy
    carol amanda melissa deborah stephanie rebecca sharon laura cynthia kathleen amy shirley angela helen
    anna brenda pamela nicole emma samantha katherine christine rachel carolyn janet catherine maria
    heather diane ruth julie olivia joyce virginia victoria kelly lauren christina joan evelyn judith
    megan andrea cheryl hannah jacqueline martha gloria teresa ann sara madison frances kathryn janice
    jean abigail alice julia judy sophia grace denise amber doris marilyn danielle beverly isabella
    theresa diana natalie brittany charlotte marie kayla alexis lori lily lucy tom tim ben sam max nick
    kate jane tina andy mandy sandy cindy peggy sally polly molly annie jenny penny vivian wendy yvonne
    zoe felix oscar leo hugo ivan omar ali chen wang li zhang liu yang wu ming fang hua wei
    """
)

SURNAMES = words(
    """
    smith johnson williams brown jones garcia miller davis rodriguez martinez hernandez lopez gonzalez
    wilson anderson thomas taylor moore jackson martin lee perez thompson white harris sanchez clark
    ramirez lewis robinson walker young allen king wright scott torres nguyen hill flores green adams
    nelson baker hall rivera campbell mitchell carter roberts gomez phillips evans turner diaz parker cruz
    edwards collins reyes stewart morris morales murphy cook rogers gutierrez ortiz morgan cooper peterson
    bailey reed kelly howard ramos kim cox ward richardson watson brooks chavez wood james bennett gray
    mendoza ruiz hughes price alvarez castillo sanders patel myers long ross foster jimenez powell jenkins
    perry russell sullivan bell coleman butler henderson barnes gonzales fisher vasquez simmons romero
    jordan patterson alexander hamilton graham reynolds griffin wallace moreno west cole hayes bryant
    herrera gibson ellis tran medina aguilar stevens murray ford castro marshall owens harrison fernandez
    mcdonald woods washington kennedy wells vargas henry chen freeman webb tucker guzman burns crawford
    olson simpson porter hunter gordon mendez silva shaw snyder mason dixon munoz hunt hicks holmes palmer
    wagner black robertson boyd rose stone salazar fox warren mills meyer rice schmidt garza daniels
    ferguson nichols stephens soto weaver ryan gardner payne grant dunn kelley spencer hawkins arnold
    pierce hansen peters santos hart bradley knight elliott cunningham duncan armstrong hudson carroll
    lane riley andrews alvarado ray delgado berry perkins hoffman johnston matthews pena richards
    contreras willis carpenter lawrence sandoval guerrero george chapman rios estrada ortega watkins
    greene nunez wheeler valdez harper burke larson santiago maldonado morrison franklin carlson austin
    dominguez carr lawson jacobs obrien lynch singh vega bishop montgomery oliver jensen harvey williamson
    gilbert dean sims espinoza howell li wong reid hanson le mccoy garrett burton fuller wang weber welch
    rojas lucas marquez fields park yang little banks padilla day walsh bowman schultz luna fowler mejia
    quigley zimmerman yates fitzgerald kowalski novak jacobson vance wexler huxley
    """
)

CITIES = words(
    """
    pittsburgh boston chicago denver dallas houston phoenix seattle portland atlanta miami tampa orlando
    cleveland columbus detroit memphis nashville austin oakland sacramento philadelphia baltimore
    milwaukee minneapolis omaha tulsa wichita raleigh richmond norfolk buffalo rochester albany newark
    trenton hartford providence worcester springfield cambridge princeton berkeley pasadena anaheim tucson
    albuquerque lincoln madison toledo akron dayton cincinnati louisville lexington birmingham mobile
    montgomery jackson savannah charleston charlotte greensboro durham knoxville chattanooga erie scranton
    harrisburg allentown bethlehem lancaster york london paris berlin madrid rome vienna dublin oxford
    bristol leeds glasgow edinburgh cardiff shanghai beijing tokyo sydney toronto montreal vancouver
    moscow cairo delhi mumbai
    """
)

COUNTRIES = words(
    """
    china japan india england france germany italy spain russia america canada mexico brazil australia
    egypt korea vietnam thailand greece turkey ireland scotland sweden norway poland holland africa europe
    asia
    """
)

STREETS = words(
    """
    forbes fifth walnut maple oak elm pine cedar main church park center washington lake hill spring river
    ridge highland jefferson lincoln madison jackson franklin adams wilson murray beacon shady negley
    craig wilkins hobart beeler northumberland phillips darlington bartlett solway fair morewood bayard
    ellsworth howe kentucky college summer winter market water mill school prospect grove union liberty
    penn smithfield grant ross stanton butler baum center bigelow
    """
)
